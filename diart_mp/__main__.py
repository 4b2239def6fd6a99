"""``python -m diart_mp``: the command line."""

from diart_mp.cli.entry import main

main()
