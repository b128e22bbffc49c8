//! `docs/schema-evolution.md` is true: its files are written, its commands run, and every line of
//! output it shows stands in what they print, in that order.

#[allow(dead_code, unreachable_pub, reason = "no binary uses all of it")]
mod support;

use support::{Ended, Folder};

const PAGE: &str = include_str!("../../docs/schema-evolution.md");

/// A piece of the page that is done.
#[derive(Debug)]
enum Step {
    File {
        name: String,
        text: String,
    },
    /// A command with the lines shown below it.
    Command {
        line: String,
        shown: Vec<String>,
    },
}

fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    let mut file: Option<String> = None;
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("<!-- file: ") {
            file = rest.strip_suffix(" -->").map(str::to_owned);
        } else if let Some(language) = line.strip_prefix("```").filter(|word| !word.is_empty()) {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            match file.take() {
                Some(name) => steps.push(Step::File { name, text: block.join("\n") + "\n" }),
                None if language == "console" => commands(&block, &mut steps),
                None => {}
            }
        }
    }
    steps
}

fn commands(block: &[&str], steps: &mut Vec<Step>) {
    for line in block {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => {
                steps.push(Step::Command { line: command.to_owned(), shown: Vec::new() });
            }
            (None, Some(Step::Command { shown, .. })) if !line.is_empty() => {
                shown.push((*line).to_owned());
            }
            _ => {}
        }
    }
}

/// Exact where the page shows everything; otherwise every line shown, in order.
#[track_caller]
fn compare(line: &str, shown: &[String], ended: &Ended) {
    let mut printed = ended.stdout.lines();
    for wanted in shown {
        assert!(
            printed.any(|printed| printed.trim_end() == wanted.trim_end()),
            "`{line}` does not print\n{wanted}\nbut\n{}{}",
            ended.stdout,
            ended.stderr
        );
    }
    let verdicts = [("incompatible:", 1), ("fails readers:", 1), ("compatible:", 0)];
    let expected = verdicts.iter().find(|(word, _)| ended.stdout.contains(word));
    assert_eq!(ended.code, expected.map_or(0, |(_, code)| *code), "`{line}`: {}", ended.stderr);
}

#[test]
fn the_page_about_changing_events_does_what_it_shows() {
    let folder = Folder::new();
    let mut ran = 0;
    for step in steps() {
        match step {
            Step::File { name, text } => _ = folder.write(&name, &text),
            Step::Command { line, shown } => {
                compare(&line, &shown, &folder.shell(&line));
                ran += 1;
            }
        }
    }
    assert!(ran >= 8, "{ran} commands were found in the page");
}
