//! The examples that `init` writes: a template, and the programs of a language in it.

use std::fmt;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Template {
    /// One agent
    Agent,
    /// Two agents, an edge between them, and a secret of one
    Team,
}

/// What the agents run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Program {
    /// Python 3 of an image that has it.
    Python,
    /// A shell and its tools, such as busybox.
    Shell,
    /// The command of an image that exists.
    Image(String),
}

/// Longest image name that is taken (as in a Compose file).
const IMAGE_BYTES_MAX: usize = 512;

impl Program {
    /// From a flag or an answer: `python`, `shell`, or the name of an image, which has a tag, a digest or a registry.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "python" => Ok(Self::Python),
            "shell" => Ok(Self::Shell),
            image if is_image(image) => Ok(Self::Image(image.to_owned())),
            _ => {
                Err("neither `python` nor `shell` nor an image's name with a tag, such as demo/agent:1"
                    .into())
            }
        }
    }

    /// The image's name.
    pub(crate) fn image(&self) -> &str {
        match self {
            Self::Python => "localhost/python:1",
            Self::Shell => "localhost/shell:1",
            Self::Image(image) => image,
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python => f.write_str("python"),
            Self::Shell => f.write_str("shell"),
            Self::Image(image) => f.write_str(image),
        }
    }
}

/// Whether it can stand in the template as it is: plain characters that mean nothing to YAML or to interpolation.
fn is_image(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/' | b':' | b'@');
    let ends_plain = text.ends_with(|c: char| c.is_ascii_alphanumeric());
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let names_more = text.contains([':', '/', '@']);
    text.len() <= IMAGE_BYTES_MAX && text.bytes().all(plain) && starts_plain && ends_plain && names_more
}

/// The Compose file.
pub(crate) fn text(template: Template, program: &Program, name: &str) -> String {
    let blocks: [(&str, &str); 3] = match program {
        Program::Python => [
            ("{{agent}}\n", include_str!("python/agent.yaml")),
            ("{{asker}}\n", include_str!("python/asker.yaml")),
            ("{{answerer}}\n", include_str!("python/answerer.yaml")),
        ],
        Program::Shell => [
            ("{{agent}}\n", include_str!("shell/agent.yaml")),
            ("{{asker}}\n", include_str!("shell/asker.yaml")),
            ("{{answerer}}\n", include_str!("shell/answerer.yaml")),
        ],
        Program::Image(_) => [
            ("{{agent}}\n", include_str!("own/agent.yaml")),
            ("{{asker}}\n", include_str!("own/asker.yaml")),
            ("{{answerer}}\n", include_str!("own/answerer.yaml")),
        ],
    };
    let mut text = match template {
        Template::Agent => include_str!("agent.yaml"),
        Template::Team => include_str!("team.yaml"),
    }
    .to_owned();
    for (mark, block) in blocks {
        text = text.replace(mark, block);
    }
    let condition = match program {
        Program::Image(_) => "service_started",
        _ => "service_healthy",
    };
    text.replace("{{condition}}", condition).replace("{{image}}", program.image()).replace("{{name}}", name)
}

/// What to do next, in order.
pub(crate) fn next_commands(template: Template, program: &Program, flag: &str) -> [String; 3] {
    let import = match program {
        Program::Image(image) => format!("casemate image pull {image}"),
        _ => format!("casemate image import {} --tar FILE", program.image()),
    };
    let policy = format!("casemate{flag} policy write");
    let up = format!("casemate{flag} up");
    match template {
        Template::Agent => [import, policy, up],
        Template::Team => {
            let secret = format!("head -c 32 /dev/urandom | casemate{flag} secret put signing_key");
            [import, secret, format!("{policy} && {up}")]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(Template, &str); 6] = [
        (Template::Agent, "python"),
        (Template::Agent, "shell"),
        (Template::Agent, "registry.example.com/a/b:1.2"),
        (Template::Team, "python"),
        (Template::Team, "shell"),
        (Template::Team, "registry.example.com/a/b@sha256:00"),
    ];

    fn read(text: &str) -> casemate_composition::Compose {
        casemate_composition::compose::parse("example", text, &Default::default())
            .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    #[test]
    fn each_example_is_read_without_warning() {
        for (template, program) in ALL {
            let text = text(template, &Program::parse(program).unwrap(), "desk");
            let compose = read(&text);
            assert_eq!(compose.warnings, [], "{text}");
            assert_eq!(compose.project().as_str(), "desk");
            assert!(!text.contains("{{") && text.lines().all(|line| line.chars().count() <= 120), "{text}");
        }
    }

    #[test]
    fn what_is_commented_out_is_accepted_too() {
        for (template, program) in ALL {
            let text = text(template, &Program::parse(program).unwrap(), "desk");
            let keys = ["volumes: ", "secrets: ", "command: ", "healthcheck: ", "egress: "];
            let lines: Vec<String> = text
                .lines()
                .map(|line| match line.split_once("# ") {
                    Some((indent, rest)) if keys.iter().any(|key| rest.starts_with(key)) => {
                        format!("{indent}{rest}")
                    }
                    _ => line.to_owned(),
                })
                .collect();
            assert_eq!(read(&lines.join("\n")).warnings, [], "{text}");
        }
    }

    #[test]
    fn takes_languages_and_names_of_images_and_nothing_that_yaml_or_variables_would_change() {
        assert_eq!(Program::parse("python"), Ok(Program::Python));
        assert_eq!(Program::parse("demo/a:1").unwrap().image(), "demo/a:1");
        for bad in
            ["", "pyhton", "a b:1", "a:1 # x", "${X}/a:1", "a\n:1", ":1", "a:", "\"a:1\"", "ä:1", "{a}/b"]
        {
            assert!(Program::parse(bad).is_err(), "{bad}");
        }
    }
}
