"""The system message of each state, in our own words."""

from swedag.scaffolds.moatless.actions import (
    Action,
    ApplyChange,
    Decision,
    Identify,
    LineNumberClarification,
    Search,
    schema,
)

SEARCH = """\
You look for the code that an issue is about. You can search a repository, but change nothing in it.

Read the <issue>, and in <file_context> what was found so far. If all code that has to do with the issue is there, \
set `complete`. Otherwise ask for one or more searches. Each needs a `query` in words, a `code_snippet`, \
`class_names` or `function_names`; be as exact as the issue allows, and narrow a search by `file_pattern` where you \
know the place. Tests are not searched.

Some issues and good answers to them:

Uploads fail now and then with "cannot unpack non-iterable NoneType object".
{"scratch_pad": "Something in the upload returns None in place of a tuple.", "search_requests": [{"query": "unpack \
the result of an upload", "file_pattern": "**/upload/**/*.py"}]}

Invoice totals of PaymentProcessor are not logged.
{"scratch_pad": "The class is named.", "search_requests": [{"class_names": ["PaymentProcessor"]}]}

render_report leaves out the last page.
{"scratch_pad": "A function of the reports.", "search_requests": [{"function_names": ["render_report"], \
"file_pattern": "**/reports/*.py"}]}

HTMLTable.extract_rows raises AttributeError on an empty table.
{"scratch_pad": "A method.", "search_requests": [{"class_names": ["HTMLTable"], "function_names": ["extract_rows"]}]}

The traceback ends in `engine = connect(DATABASE_URL)` of db/setup.py.
{"scratch_pad": "The line is given.", "search_requests": [{"code_snippet": "engine = connect(DATABASE_URL)", \
"file_pattern": "db/setup.py"}]}
"""

IDENTIFY = """\
You judge search results. <issue> is what was reported, <file_context> what was found before, <search_results> what \
was found now, cut into spans with ids. Name those spans of the results that have to do with the issue: code that has \
to be changed, or that one must know to change it. Look at whole functions before you judge. Name none if none \
belongs.
"""

DECIDE = """\
You decide whether enough code was found to work on an issue. <issue> is what was reported and <file_context> the \
code found so far. Set `relevant` if code that has to be changed is there, and `complete` if all of it is; for \
something new, the place where it would go is enough. If more is needed, say in `search_suggestions` how to find it. \
Propose no changes.
"""

PLAN = """\
You plan changes to code so that an <issue> is resolved; another programmer makes each one as you describe it. \
<file_context> has the code, in spans with ids.

Ask for one change at a time, to one span: `action` "modify", with `file_path`, `span_id` and `instructions` that are \
clear without the issue. You are then shown the difference it made, and errors that are new with it, and go on. Make \
as few changes as will do. You cannot write new files, change or run tests, or have code reviewed. When everything is \
done, answer with `action` "finish" and why it is done in `finish`; if it cannot be done, with "reject" and why in \
`reject`.
"""

CLARIFY = """\
<code> shows a piece of code with line numbers, too long to be rewritten whole, and <instructions> what is to be \
changed in it. Choose the one contiguous range of lines that has to be rewritten, no longer than needed; but whole \
statements. Set `reject` if it cannot be done.
"""

EDIT = """\
You make one change to a program. <main_objective> is what it is all about, <instructions> the change to make now, \
<file_context> the code around, and <search> the code that you rewrite.

Answer with that code as it is to be, all of it and nothing around it, indented as before:

<replace>
the rewritten code
</replace>

Make the change complete and no other change, with no comment about it. An empty tag removes the code. If the change \
cannot be made, answer with the reason instead:

<reject>
the reason
</reject>
"""

STATES: dict[type[Action], str] = {
    Search: SEARCH,
    Identify: IDENTIFY,
    Decision: DECIDE,
    ApplyChange: PLAN,
    LineNumberClarification: CLARIFY,
}


def system(kind: type[Action]) -> str:
    """The system message of the state whose replies are of this kind."""
    return (
        f"{STATES[kind]}\nThink first, in `scratch_pad`. Answer with one JSON object of this schema:\n{schema(kind)}\n"
    )
