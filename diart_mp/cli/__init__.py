"""The command line: one module per command. They parse and print; they decide nothing."""
