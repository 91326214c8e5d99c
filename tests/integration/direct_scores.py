"""p(yes) by a forward pass of transformers, without vLLM: `python direct_scores.py JOB`, with the tool environment.

JOB is JSON: the folder of a model, and for each form of question the two words, what stands before them in the answer,
and the conversations. Prints the scores as JSON, by form.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(job: dict[str, Any]) -> dict[str, list[float]]:
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32).eval()
    found: dict[str, list[float]] = {}
    for form, asked in job["forms"].items():
        words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in asked["words"]]
        found[form] = []
        for messages in asked["conversations"]:
            prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            tokens = tokenizer.encode(prompt + asked["opening"], add_special_tokens=False, return_tensors="pt")
            with torch.no_grad():
                logits = model(tokens).logits[0, -1]
            found[form].append(float(torch.softmax(logits[words], 0)[0]))
    return found


if __name__ == "__main__":
    print("\n" + json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
