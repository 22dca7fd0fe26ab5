"""Processes that step rows side by side: what a row is and does, the caller says.

Nothing here knows an environment. `pool` is the caller's side and `worker` the other one; `process`
is one such process as the caller sees it, `rows` what both sides step, `memory` what they share;
`assignment` says which process steps which rows.
"""
