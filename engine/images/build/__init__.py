"""From a Dockerfile to an image: parse → instructions → stages → solve → execute. Read builder.py first."""
