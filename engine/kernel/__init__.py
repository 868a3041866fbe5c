"""The kernel's calls, one flat function per syscall: the only place that speaks ctypes. Standard library only."""
