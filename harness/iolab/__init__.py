"""iolab: runs matrices of servers and workloads in paired slices and says which path is faster."""

__version__ = "0.1.0"
