"""``python -m containarium`` is the same as the command ``containarium``."""

from containarium.cli.main import main

if __name__ == "__main__":
    main()
