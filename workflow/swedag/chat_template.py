"""The chat template that training uses: it renders as the model's own does, and marks what the assistant says.

TRL learns from what stands between `{% generation %}` and `{% endgeneration %}`: here each reply and the token that
ends it, and neither the header of the turn nor the line break after it.
"""

import json
from typing import Any

from swedag.errors import SwedagError

# ChatML, as Qwen2.5 and SmolLM2 have it behind their default system messages.
CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}
            {{- message.content + '<|im_end|>' }}
        {%- endgeneration %}
        {{- '\\n' }}
    {%- else %}
        {{- message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}"""


def marked(tokenizer: Any, conversations: list[list[dict[str, str]]]) -> str:
    """A marked template for these conversations: the tokenizer's own if it has marks, ChatML if both render all of them
    alike, else TRL's for that model. SwedagError when there is none of these."""
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    own = tokenizer.chat_template
    if not own:
        raise SwedagError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; give it a chat_template.jinja"
        )
    if has_generation_markers(own):
        return str(own)
    chatml = _default_system(tokenizer) + CHATML
    if all(_render(tokenizer, own, row) == _render(tokenizer, chatml, row) for row in conversations):
        return chatml
    try:
        return str(get_training_chat_template(tokenizer))
    except ValueError as error:
        raise SwedagError(
            f"{tokenizer.name_or_path}: its chat template is neither ChatML nor one that TRL knows; put "
            "{% generation %} and {% endgeneration %} around the assistant's words in its chat_template.jinja"
        ) from error


def _render(tokenizer: Any, template: str, conversation: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(conversation, chat_template=template, tokenize=False))


def _default_system(tokenizer: Any) -> str:
    """What the tokenizer's template puts before a conversation without a system message, as a piece of a template."""
    asked = [{"role": "user", "content": "?"}]
    default = _render(tokenizer, tokenizer.chat_template, asked).removesuffix(_render(tokenizer, CHATML, asked))
    return f"{{%- if messages[0].role != 'system' %}}{{{{- {json.dumps(default)} }}}}{{%- endif %}}\n"
