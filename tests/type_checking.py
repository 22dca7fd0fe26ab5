"""The type checker of annotated shapes: jaxtyping's import hook applies it to agents and envs."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for mypy
