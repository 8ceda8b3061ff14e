"""The program of a measuring process (gauge.py). The processes that it spawns import it too, and some rows
measure their start: so it imports all else only when it runs."""

if __name__ == "__main__":
    from gauge import main

    main()
