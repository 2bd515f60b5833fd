"""``python -m hoptrail`` is ``hoptrail``."""

from hoptrail.cli import main

if __name__ == "__main__":
    main(prog_name="hoptrail")
