"""What tests share: processes, requests, waiting, bodies, doubles, and real servers."""
