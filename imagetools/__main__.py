"""The command line: `imagetools`, or `python -m imagetools`."""

from cli.commands import main

if __name__ == "__main__":
    main()
