"""`python -m tilbud` is `tilbud`."""

from tilbud.cli import main

if __name__ == "__main__":
    main()
