"""What runs beside and inside a container: bundle, monitor, init, cgroup. Read `monitor.py` first.

`zygote`, `monitor`, `init` and all they import use only the standard library and `engine.kernel`.
"""
