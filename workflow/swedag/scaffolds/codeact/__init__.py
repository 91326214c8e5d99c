"""CodeAct: OpenHands' agent of the paper, with three tools whose calls stand as text in the replies."""

from swedag.scaffolds.codeact.agent import CodeActSettings, attempt

__all__ = ["CodeActSettings", "attempt"]
