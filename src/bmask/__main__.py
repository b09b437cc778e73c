from bmask.cli import main

main()
