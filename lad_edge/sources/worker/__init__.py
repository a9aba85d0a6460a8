"""The process in which drivers block, hang and crash: a request comes in through shared memory, frames go out through it.

Only the standard library is imported outside the file of each driver: `genicam` and `gst` may run under the Python of the
system, which has their bindings, while lad-edge lives in an environment of its own.
"""
