"""The version of umiak, where a command can read it without searching the installed packages."""

VERSION = "0.1.0"
