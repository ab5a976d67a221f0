"""Traces as text: the messages of a prompt and the completion to learn."""

from __future__ import annotations

from tunix_rt.traces.trace import Trace

FORMATS = ("answer-line", "tags", "boxed")
DEFAULT_FORMAT = "answer-line"
QUESTION = "{question}"  # stands for the question in a prompt template
MAX_TEMPLATE_BYTES = 16 * 1024
INSTRUCTIONS = {
    "answer-line": "Show each step on a line, then Answer: result.",
    "tags": "Reason in <reasoning></reasoning>, then give the result in <answer></answer>.",
    "boxed": "Show each step on a line, then the result in \\boxed{}.",
}


def prompt_messages(
    prompt: str,
    format: str = DEFAULT_FORMAT,  # noqa: A002
    system: str = "",
    template: str = "",
) -> list[dict[str, str]]:
    """The chat messages of a prompt, the same for every model: system message, then the user's turn.

    The format's instruction is the system message, after `system` where that is given: so a chat
    template adds no default one of its own. `template` is that of `user_message`.
    """
    instruction = INSTRUCTIONS[checked_format(format)]
    content = f"{system.strip()}\n{instruction}" if system.strip() else instruction
    return [
        {"role": "system", "content": content},
        {"role": "user", "content": user_message(prompt, template)},
    ]


def user_message(question: str, template: str = "") -> str:
    """The user's message: the template with the question in place of `{question}`; empty, the question."""
    if not template:
        return question
    before, _, after = template.partition(QUESTION)
    return f"{before}{question}{after}"


def template_faults(template: str) -> list[str]:
    """Everything that is wrong with a prompt template that is not empty."""
    faults = []
    if (size := len(template.encode())) > MAX_TEMPLATE_BYTES:
        faults.append(f"has {size} bytes; it must have at most {MAX_TEMPLATE_BYTES}.")
    if (count := template.count(QUESTION)) != 1:
        faults.append(f"has `{QUESTION}` {count} times; it must stand there exactly once.")
    rest = template.replace(QUESTION, "")
    if found := [brace for brace in "{}" if brace in rest]:
        shown = " and ".join(f"`{brace}`" for brace in found)
        faults.append(f"has {shown} outside of `{QUESTION}`; leave other braces out.")
    return faults


def completion_text(trace: Trace, format: str = DEFAULT_FORMAT) -> str:  # noqa: A002
    """The completion to train on, without a stop token.

    A trace with its own completion gives it verbatim. Raises ValueError for one without an answer, and
    for a conversation.
    """
    checked_format(format)
    if trace.messages:
        raise ValueError(f"trace {trace.id} is a conversation; it has no single completion.")
    if trace.completion:
        return trace.completion
    if not trace.final_answer:
        raise ValueError(f"trace {trace.id} has neither a completion nor a final answer to train on.")
    steps = "\n".join(step.content for step in trace.steps)
    if format == "tags":
        return f"<reasoning>{steps}</reasoning>\n<answer>{trace.final_answer}</answer>"
    last = f"\\boxed{{{trace.final_answer}}}" if format == "boxed" else f"Answer: {trace.final_answer}"
    return f"{steps}\n{last}" if steps else last


def checked_format(format: str) -> str:  # noqa: A002
    """The format itself, or ValueError when there is no such format."""
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}.")
    return format
