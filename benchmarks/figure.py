"""The program of a measuring process (measure.py). The processes that it spawns import it too, and some rows
measure their start: so it imports all else only when it runs."""

if __name__ == "__main__":
    from measure import main

    main()
