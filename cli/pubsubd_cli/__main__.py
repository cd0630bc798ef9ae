"""`python -m pubsubd_cli`: the same as the command `pubsubd`."""

from pubsubd_cli.main import main

main()
