"""The energy in torch: one module a term, pure functions of typed parameters and coordinates."""
