"""`python -m carom` is the command line."""

from carom.common.cli.main import main

if __name__ == "__main__":
    main()
