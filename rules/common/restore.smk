# Look-ups of rules/restore.smk.
def restored(kind):
    return [path for path in CONFIG.restore if CONFIG.restorable()[path] == kind]


def restore_settings(wildcards):
    return settings(CONFIG.restore[wildcards.restored])
