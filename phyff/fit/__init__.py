"""Fits: each term of the energy from quantum data, one module a term."""
