"""The command line: `imagetools`, or `python -m imagetools`."""

from cli.main import main

if __name__ == "__main__":
    main()
