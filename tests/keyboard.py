"""A page of the console as somebody uses it who has no mouse: Tab, Enter, letters and the keys of the page."""

from playwright.sync_api import FileChooser

from tests.browser import GuardedPage

FOCUSED = """(() => {
    const item = document.activeElement;
    return item?.getAttribute('aria-label') ?? item?.labels?.[0]?.innerText ?? item?.textContent ?? '';
})()"""
MOST_TABS = 150


class Keyboard:
    """Does things to a page by keys; ``choosers`` are the open dialogs for files."""

    def __init__(self, page: GuardedPage) -> None:
        self.page = page
        self.choosers: list[FileChooser] = []
        page.page.on("filechooser", self._note_chooser)
        self.press = page.page.keyboard.press
        self.type = page.page.keyboard.type

    def _note_chooser(self, chooser: FileChooser) -> None:
        self.choosers.append(chooser)

    def go_to(self, label: str) -> None:
        """Press Tab until the focus is on what has this label or text, at its beginning."""
        for _ in range(MOST_TABS):
            self.press("Tab")
            if str(self.page.page.evaluate(FOCUSED)).strip().startswith(label):
                return
        raise AssertionError(f"Tab does not lead to {label!r}")

    def use(self, label: str) -> None:
        """Go to a button or link, and press Enter."""
        self.go_to(label)
        self.press("Enter")

    def open_tab(self, title: str, model: str) -> None:
        """Go to another page of a model, and wait until its view has its data."""
        self.use(title)
        heading = model if title == "Versions" else f"{model}: {title.lower()}"
        self.page.wait_for(f"document.querySelector('#app h1')?.innerText === {heading!r}", heading)
        self.page.wait_for("!document.querySelector('[data-loading]')", heading)

    def press_offered(self, key: str, what: str) -> None:
        """Press a key of the page as soon as the page shows that it has it."""
        self.page.wait_for(f"document.querySelector('#keys')?.innerText.includes({what!r})", f"the key for {what}")
        self.press(key)

    def retype(self, label: str, text: str) -> None:
        """Replace the text of a field."""
        self.go_to(label)
        self.press("ControlOrMeta+a")
        self.type(text)

    def confirm(self, reason: str, button: str) -> None:
        """Type the reason, on which a dialog begins, and go on to its button."""
        self.page.wait_for("document.activeElement?.name === 'reason'", "the field of the reason")
        self.type(reason)
        self.use(button)
        self.page.wait_for("!document.querySelector('dialog')", "the end of the dialog")
