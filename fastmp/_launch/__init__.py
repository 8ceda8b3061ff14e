"""How processes come to life: one module for each start method, each with a class `Popen`."""
