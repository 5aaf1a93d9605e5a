"""Headless Chromium, driven by its DevTools protocol over two pipes: no port is opened, and no package is needed.

WebGL runs on the processor (SwiftShader), so that a machine without a GPU draws what one with a GPU does.
"""

import base64
import fcntl
import json
import os
import select
import signal
import subprocess
import tempfile
import time

PROGRAM = "chromium-headless-shell"
# Everything that the browser would ask of others by itself is off; as root it has no sandbox of its own, and sees loopback only.
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Browser:
    """One page of `width` × `height` pixels."""

    def __init__(self, width, height, deadline_s):
        self.until = time.monotonic() + deadline_s
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()

        def pipes():
            # It reads from 3 and writes to 4, which may be what is to be moved there.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]
            for fd, number in zip(high, (3, 4)):
                os.dup2(fd, number)

        command = [PROGRAM, *SWITCHES, f"--user-data-dir={self.profile.name}", f"--window-size={width},{height}"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=pipes,
            close_fds=False,
            # What Debian installs is a script that starts it: only together do they end.
            start_new_session=True,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.bytes, self.count, self.session, self.said = b"", 0, None, []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.to)
        os.close(self.back)
        self.profile.cleanup()

    def call(self, method, **parameters):
        """The answer to one command; what else is said meanwhile is kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def next(self):
        while b"\0" not in self.bytes:
            if not select.select([self.back], [], [], max(0, self.until - time.monotonic()))[0]:
                raise TimeoutError("the browser did not answer in time; it said:\n" + "\n".join(self.said[-20:]))
            more = os.read(self.back, 1 << 20)
            if not more:
                raise RuntimeError("the browser ended; it said:\n" + "\n".join(self.said[-20:]))
            self.bytes += more
        message, _, self.bytes = self.bytes.partition(b"\0")
        message = json.loads(message)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning"):
                self.said.append(" ".join(str(a.get("value", a.get("description"))) for a in parameters["args"])[:400])
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.said.append(str(details.get("exception", {}).get("description", details["text"]))[:400])
            case "Log.entryAdded":
                self.said.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}"[:400])
        return message

    def open(self, url):
        self.call("Page.navigate", url=url)

    def evaluate(self, expression):
        """The value of JavaScript, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "it throws"))
        return answer["result"].get("value")

    def wait(self, what, expression):
        """Asks at every frame that the page draws, until the value is true; that value."""
        poll = f"""new Promise(done => {{
            const end = performance.now() + 1000;
            const ask = () => {{
                let value;
                try {{ value = {expression}; }} catch {{ value = null; }}
                value || performance.now() > end ? done(value) : requestAnimationFrame(ask);
            }};
            ask();
        }})"""
        while time.monotonic() < self.until:
            try:
                if value := self.evaluate(poll):
                    return value
            except RuntimeError as e:
                # The page that was asked is gone, another one comes.
                if "context" not in str(e) and "navigated" not in str(e):
                    raise
        raise TimeoutError(f"{what}: not in time; the browser said:\n" + "\n".join(self.said[-20:]))

    def picture(self, **clip):
        """The page, or a part of it, as PNG."""
        options = {"clip": {**clip, "scale": 1}} if clip else {}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **options)["data"])
