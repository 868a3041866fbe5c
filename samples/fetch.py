"""Fetch a page as a browser would and say in a line what came back:  python samples/fetch.py URL"""

import re
import sys
import urllib.request

url = sys.argv[1]
with urllib.request.urlopen(url, timeout=10) as response:
    body = response.read().decode()
    title = re.search(r"<title>(.*?)</title>", body)
    served_by = response.headers.get("X-Served-By", "the server")
    print(f'GET {url} → {response.status} "{title.group(1) if title else ""}", {len(body)} bytes from {served_by}\n')
