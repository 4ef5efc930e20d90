"""`python -m anonymotion` is the command `anonymotion`.  Not here: anything else."""

from anonymotion.cli import main

main()
