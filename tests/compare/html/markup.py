"""A page taken apart, and text that is meant to break out of one."""

from html.parser import HTMLParser

from compare.html import page as module

HOSTILE = '</script></style></title><script>alert(1)</script><img src=x onerror="alert(1)">&amp;\''


class Outline(HTMLParser):
    """The elements of a document with their attributes, the text of each kind, and that all are closed in order."""

    VOID = module.VOID

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.text, self.data, self.open = [], {}, [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))  # within a drawing

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)
        place = self.open[-1] if self.open else ""
        self.text[place] = self.text.get(place, "") + data

    def policy(self):
        (content,) = (a["content"] for _, a in self.elements if a.get("http-equiv") == "Content-Security-Policy")
        return dict(part.split(" ", 1) for part in content.split("; "))
