"""``python -m glowplug`` is the command ``glowplug``."""

from glowplug.cli import main

if __name__ == "__main__":
    main(prog_name="glowplug")
