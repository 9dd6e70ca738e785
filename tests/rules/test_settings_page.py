"""docs/settings.md lists every setting there is, as the code has it.

`python tests/rules/test_settings_page.py` writes the page.
"""

from pathlib import Path

from pydantic.fields import FieldInfo

from bridge.settings import Settings
from workers.settings import WorkerSettings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
BEGINNING = """\
# Settings

From the environment, or from a file named `.env` in the folder where `emeritus` starts (another one by
`EMERITUS_ENV_FILE`). The environment wins. An empty value counts as not set.
"""
ABOUT_WORKERS = """\
## What only workers may know

These are read by `serve`, `worker`, `demo` and `doctor`; only the worker's process is given the key.
"""
ABOUT_KEYS = """
A voice may have a key of its own: in a variable whose name begins with `ANTHROPIC_API_KEY_` and stands in the voice's
`--key-name`. A key of the worker's goes to the worker's own server only; a voice with another address that names no key
is sent a constant that opens nothing.

Bedrock needs `emeritus[bedrock]`, and takes `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`, `AWS_PROFILE`, `AWS_BEARER_TOKEN_BEDROCK` and `ANTHROPIC_BEDROCK_BASE_URL`. Vertex needs
`emeritus[vertex]`, and takes `CLOUD_ML_REGION`, `ANTHROPIC_VERTEX_PROJECT_ID`, `ANTHROPIC_VERTEX_BASE_URL` and, from
the environment alone, `GOOGLE_APPLICATION_CREDENTIALS`. `serve` gives none of these to any other part.
"""


def page() -> str:
    """Return the page as it should be."""
    shared = dict(Settings.model_fields)
    own = {name: field for name, field in WorkerSettings.model_fields.items() if name not in shared}
    return "\n".join([BEGINNING, *table(shared), "", ABOUT_WORKERS, *table(own), ABOUT_KEYS])


def table(fields: dict[str, FieldInfo]) -> list[str]:
    """Return a table of settings: name, default, description."""
    rows = [f"| `{name.upper()}` | {default(field)} | {field.description} |" for name, field in fields.items()]
    return ["| Setting | Default | What it does |", "|---|---|---|", *rows]


def default(field: FieldInfo) -> str:
    """Return a default as it would be written in the environment."""
    return f"`{field.default}`" if field.default not in (None, "") else "not set"


def test_has_every_setting_with_its_default_and_what_it_does() -> None:
    assert PAGE.read_text("utf-8") == page()


def test_describes_every_setting_in_a_sentence() -> None:
    for name, field in WorkerSettings.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", "`.")), name
        assert "|" not in field.description, name


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
