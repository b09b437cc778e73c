"""What people do with the result, as commands: cli.py puts them together with the stages."""
