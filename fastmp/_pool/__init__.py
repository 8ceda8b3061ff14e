"""What `fastmp.pool` is made of; see there. Each module imports only those before it:

tasks     what goes over the board between a pool and its workers
errors    what may become of a task but a result
local_board  a board for tasks that don't travel in shared memory
classic   a board over queues that a subclass made
worker    the life of a worker
packing   what of a task goes by value
results   what a caller gets for a task
desk      who collects results
pool      the pool: workers, supervisor, calls
threads   a pool whose workers are threads
"""
