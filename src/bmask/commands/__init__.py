"""Commands for using the results; cli.py adds them to the commands of the stages."""
