# Look-ups of rules/tables.smk.
from swedag import figures, tables
from swedag.report.page import style_files


def table_settings(wildcards):
    return settings(CONFIG.tables[wildcards.table])


def table_attempts(wildcards):
    return attempts(tables.sets_of(CONFIG.tables[wildcards.table]))


def table_cards(wildcards):
    return [
        f"{RESULTS}/sft/{name}.card.json"
        for name in tables.cards_of(CONFIG.tables[wildcards.table])
    ]


def table_instances(wildcards):
    return [
        instances_file(name)
        for name in tables.datasets_of(CONFIG.tables[wildcards.table])
    ]


def table_code(wildcards):
    """Layers of a table's instances or mirrors of their repositories, if it looks at the code."""
    return [
        path
        for name in tables.code_of(CONFIG.tables[wildcards.table])
        for path in (
            mirrors(CONFIG.instance_ids(name))
            if name in datasets_of("published")
            else CONFIG.image_shards(name, "images")
        )
    ]


def mirrors(instance_ids):
    return mirrors_of(sorted({name.rpartition("-")[0] for name in instance_ids}))


def table_code_option(wildcards, input):
    return "--images results/images" if input.get("code_of") else ""


def table_references(wildcards):
    return [
        f"config/reference/{name}.csv"
        for name in tables.references_of(CONFIG.tables[wildcards.table])
    ]


def figure_settings(wildcards):
    return settings(CONFIG.figures[wildcards.figure])


def figure_attempts(wildcards):
    return attempts(figures.sets_of(CONFIG.figures[wildcards.figure]))


def figure_checkpoints(wildcards):
    return [
        model_folder(name)
        for name in figures.policies_of(CONFIG.figures[wildcards.figure])
    ]


def figure_references(wildcards):
    return [
        f"config/reference/{name}.csv"
        for name in figures.references_of(CONFIG.figures[wildcards.figure])
    ]


def figures_of(kind):
    return [name for name, figure in CONFIG.figures.items() if figure.kind == kind]


def figures_but(kind):
    return [name for name, figure in CONFIG.figures.items() if figure.kind != kind]


def drawn(path):
    """A figure, marked for Snakemake's own report."""
    return report(
        path,
        caption="../workflow/report/figure.rst",
        category="Figures",
        labels={"figure": "{figure}"},
    )


def report_style(wildcards):
    return [str(path) for path in style_files()]


def report_words(kind):
    def of_run(wildcards):
        return shard_words(kind, CONFIG.rollouts)

    return of_run


def report_scores_option(wildcards):
    words = [
        shard_words(f"scores/{name}", verifier.scores)
        for name, verifier in CONFIG.verifiers.items()
    ]
    return f"--scores {' '.join(words)}" if any(words) else ""
