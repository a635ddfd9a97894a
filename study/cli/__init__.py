"""The command line; a file per command group, each loaded only when its command is used."""
