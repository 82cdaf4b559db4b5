"""A headless Chromium and one page in it, by the DevTools protocol over two pipes.

    with Browser(place) as browser:
        page = browser.open(path)          # waits until the page says that it is drawn
        page.value("1 + 1")                # a JavaScript expression's value
        page.click("#zoom-in"); page.type("#filter", "text"); page.press("Escape")
        page.screenshot("file.png")
        page.complaints                    # console messages, exceptions, requests that left the page

Nothing of the machine's own profile is used, and the network is one that leads nowhere.
"""
import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time

from pheap_test import Failure, Skip, check

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-breakpad",
         "--disable-crash-reporter", "--disable-extensions", "--disable-background-networking",
         "--disable-component-update", "--disable-default-apps", "--disable-sync", "--mute-audio",
         "--disable-dev-shm-usage", "--proxy-server=127.0.0.1:9", "--remote-debugging-pipe",
         "--hide-scrollbars", "--force-device-scale-factor=1")


def needs_chromium():
    """Said on stderr too: prove shows no reason of a test that is skipped."""
    if not CHROMIUM:
        print("# skip: no chromium: make check-browser installs it", file=sys.stderr, flush=True)
        raise Skip("no chromium: make check-browser installs it")


class Page:
    def __init__(self, browser, session):
        self.browser, self.session = browser, session
        self.complaints, self.requests = [], []

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def event(self, method, parameters):
        if method == "Runtime.consoleAPICalled":
            texts = [str(a.get("value", a.get("description"))) for a in parameters["args"]]
            self.complaints.append("console: " + " ".join(texts))
        elif method == "Runtime.exceptionThrown":
            details = parameters["exceptionDetails"]
            self.complaints.append("exception: " + details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded":
            self.complaints.append("log: " + parameters["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise Failure(f"{expression}: {answer['exceptionDetails']['exception'].get('description')}")
        return answer["result"].get("value")

    def wait_for(self, expression, what, timeout=60):
        end = time.monotonic() + timeout
        while not self.value(f"!!({expression})"):
            if time.monotonic() > end:
                raise Failure(f"not within {timeout} s: {what} ({expression}); {self.complaints}")
            time.sleep(0.01)

    def size(self, width, height=1000, dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def middle(self, selector):
        """Where the element is, once it has been scrolled to."""
        found = self.value(f"(e => {{ if (!e) return null; e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
                           f" const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})"
                           f"(document.querySelector({json.dumps(selector)}))")
        check(found, f"{selector}: there is no such element")
        return found

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click_at(self, x, y):
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def click(self, selector):
        self.click_at(*self.middle(selector))

    def press(self, key, code=None, text=None):
        more = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=code or key,
                  windowsVirtualKeyCode={"Enter": 13, "Escape": 27}.get(key, 0), **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=code or key)

    def type(self, selector, text):
        """In place of what is there."""
        self.click(selector)
        self.value(f"document.querySelector({json.dumps(selector)}).select()")
        if text:
            self.call("Input.insertText", text=text)
        else:
            self.value(f"(e => {{ e.value = ''; e.oninput(); }})(document.querySelector({json.dumps(selector)}))")

    def screenshot(self, path, whole=True):
        more = {}
        if whole:
            content = self.call("Page.getLayoutMetrics")["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": content["width"],
                                                            "height": content["height"], "scale": 1}}
        answer = self.call("Page.captureScreenshot", format="png", **more)
        with open(path, "wb") as f:
            f.write(base64.b64decode(answer["data"]))


class Browser:
    def __init__(self, place, width=1280):
        needs_chromium()
        self.width, self.number, self.pages, self.rest = width, 0, {}, b""
        os.makedirs(place.path("browser"), exist_ok=True)
        to_browser, self.to = os.pipe()
        self.source, from_browser = os.pipe()

        def place_pipes():
            os.setsid()
            # both first out of the way of 3 and 4
            high = [os.dup2(fd, 60 + i) for i, fd in enumerate((to_browser, from_browser))]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        environment = dict(os.environ, HOME=place.path("browser"), XDG_RUNTIME_DIR=place.path("browser"))
        environment.pop("LD_PRELOAD", None)
        self.errors = open(place.path("browser", "stderr"), "wb")
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, "--user-data-dir=" + place.path("browser", "profile"), "about:blank"],
            preexec_fn=place_pipes, close_fds=False, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
            env=environment)
        os.close(to_browser)
        os.close(from_browser)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Asks it to end, so that none of its processes stays; then insists."""
        try:
            self.send("Browser.close", None, {})
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)
        for fd in (self.to, self.source):
            os.close(fd)
        self.errors.close()

    def send(self, method, session, parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data):]
        return self.number

    def receive(self, timeout):
        end = time.monotonic() + timeout
        while b"\0" not in self.rest:
            if not select.select([self.source], [], [], max(0, end - time.monotonic()))[0]:
                raise Failure(f"the browser says nothing for {timeout} s")
            part = os.read(self.source, 1 << 20)
            if not part:
                raise Failure("the browser has ended")
            self.rest += part
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, timeout=120, **parameters):
        number = self.send(method, session, parameters)
        while True:
            message = self.receive(timeout)
            if message.get("id") == number:
                if "error" in message:
                    raise Failure(f"{method}: {message['error']}")
                return message["result"]
            page = self.pages.get(message.get("sessionId"))
            if page and "method" in message:
                page.event(message["method"], message["params"])

    def open(self, path, width=None, dark=False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        for domain in ("Runtime", "Log", "Network", "Page"):
            page.call(domain + ".enable")
        page.size(width or self.width, dark=dark)
        page.begin = time.monotonic()
        page.call("Page.navigate", url="file://" + path)
        page.wait_for("document.documentElement && document.documentElement.dataset.ready === 'yes'", "the page is drawn")
        page.seconds = time.monotonic() - page.begin
        return page
