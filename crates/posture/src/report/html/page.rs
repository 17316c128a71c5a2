//! A page as it is written: tags of this program, and text of anybody, which is escaped on its way in.

use casemate_protocol::refusal::printable_line;

/// The page. Nothing that is not written in this program becomes markup: names of tags and attributes are `'static`.
#[derive(Debug, Default)]
pub(super) struct Page(String);

/// Attributes of a tag. Values are escaped.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Page {
    /// Markup of this program.
    pub(super) fn raw(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// Text. What would end it, and what moves, hides or turns text around, is replaced.
    pub(super) fn text(&mut self, text: &str) {
        for c in printable_line(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    pub(super) fn open(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.begin(name, attributes);
        self.0.push('>');
    }

    pub(super) fn close(&mut self, name: &'static str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push_str(">\n");
    }

    /// A tag without content.
    pub(super) fn empty(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.begin(name, attributes);
        self.0.push_str("/>\n");
    }

    pub(super) fn element(&mut self, name: &'static str, attributes: Attributes<'_>, text: &str) {
        self.open(name, attributes);
        self.text(text);
        self.close(name);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn begin(&mut self, name: &'static str, attributes: Attributes<'_>) {
        self.0.push('<');
        self.0.push_str(name);
        for (attribute, value) in attributes {
            self.0.push(' ');
            self.0.push_str(attribute);
            self.0.push_str("=\"");
            self.text(value);
            self.0.push('"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_values_cannot_become_markup() {
        let mut page = Page::default();
        page.element("p", &[("title", "\" onload=\"x")], "</p><script>alert('1')</script>&amp;\u{202e}\u{0}");
        assert_eq!(
            page.finish(),
            "<p title=\"&quot; onload=&quot;x\">&lt;/p&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;\u{fffd}\u{fffd}</p>\n"
        );
    }
}
