"""What `fastmp.managers` is made of; see there. Each module imports only those before it:

protocol   what goes over the connections between a server and its clients
state      whether a manager is in use
server     the objects, and who answers for them
client     the connections of a process to servers
proxy      what stands for an object in a server
proxies    proxies for the standard types
manager    starts a server, and makes proxies of what is in it
values     types of objects that are made for managers
sync       the manager of the standard types
"""
