import sys


def main() -> None:
    """Runs the program, see `cli.app.main`. What it takes is imported here, where Ctrl-C can be heard already."""
    try:
        from xclip_cli.cli.app import main
    except KeyboardInterrupt:
        sys.exit(130)
    main()


if __name__ == "__main__":
    main()
