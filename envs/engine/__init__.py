"""Single Meta-World environments, which compute bit for bit what the package computes."""
