"""`python -m phyff` is the `phyff` command."""

from phyff.cli import app

app(prog_name="phyff")
