"""Exit 0 when this replica answers and reaches its database."""

import http.client
import sys

connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=2)
connection.request("GET", "/health")
sys.exit(0 if connection.getresponse().status == 200 else 1)
