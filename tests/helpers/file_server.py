"""A server of one file on this machine, which may stop, lie or change its mind."""

import http.server


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content` with ranges; closes after `server.stop_after` bytes of the body."""

    def do_GET(self):
        content, asked = self.server.content, self.headers.get('Range')
        self.server.asked.append(asked)
        version = self.headers.get('If-Range')
        if version and version != self.server.headers.get('ETag'):
            asked = None
        start = int(asked.removeprefix('bytes=').rstrip('-')) if asked else 0
        if self.path != '/own-v2.hdf5':
            self.send_error(404)
            return
        if start >= len(content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(content)}')
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        if self.server.tells_size:
            self.send_header('Content-Length', str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.stop_after])

    def log_message(self, *_):
        pass
