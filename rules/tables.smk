# Tables, figures, the report and the provenance: what people look at, made of attempts and data cards.
include: "common/tables.smk"


rule table:
    input:
        code=code("tables"),
        attempts=table_attempts,
        cards=table_cards,
        instances=table_instances,
        code_of=table_code,
        references=table_references,
    output:
        csv=report(
            "results/{run}/tables/{table}.csv",
            caption="../workflow/report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown="results/{run}/tables/{table}.md",
        latex="results/{run}/tables/{table}.tex",
    log:
        "logs/{run}/tables/{table}.log",
    benchmark:
        "benchmarks/{run}/tables/{table}.jsonl"
    conda:
        "../envs/driver.yaml"
    params:
        settings=table_settings,
        attempts=option("attempts"),
        cards=option("cards"),
        instances=option("instances"),
        code_of=table_code_option,
        references=option("references"),
    shell:
        "python -m swedag tables --settings {params.settings:q} {params.attempts} {params.cards} "
        "{params.instances} {params.code_of} {params.references} "
        "--csv {output.csv} --markdown {output.markdown} --latex {output.latex} &> {log}"


rule figure:
    input:
        code=code("figures"),
        attempts=figure_attempts,
        checkpoints=figure_checkpoints,
        references=figure_references,
    output:
        svg=drawn("results/{run}/figures/{figure}.svg"),
        png="results/{run}/figures/{figure}.png",
    log:
        "logs/{run}/figures/{figure}.log",
    benchmark:
        "benchmarks/{run}/figures/{figure}.jsonl"
    wildcard_constraints:
        figure=one_of(figures_but("verifier")),
    conda:
        "../envs/driver.yaml"
    params:
        settings=figure_settings,
        attempts=option("attempts"),
        checkpoints=option("checkpoints"),
        references=option("references"),
    shell:
        "python -m swedag figures --settings {params.settings:q} {params.attempts} {params.checkpoints} "
        "{params.references} --svg {output.svg} --png {output.png} &> {log}"


rule verifier_figure:
    input:
        code=code("figures"),
        attempts=figure_attempts,
    output:
        svg=drawn("results/{run}/figures/{figure}.svg"),
        png="results/{run}/figures/{figure}.png",
        quality="results/{run}/figures/{figure}.json",
    log:
        "logs/{run}/figures/{figure}.log",
    benchmark:
        "benchmarks/{run}/figures/{figure}.jsonl"
    wildcard_constraints:
        figure=one_of(figures_of("verifier")),
    conda:
        "../envs/driver.yaml"
    params:
        settings=figure_settings,
    shell:
        "python -m swedag figures --settings {params.settings:q} --attempts {input.attempts} "
        "--svg {output.svg} --png {output.png} --quality {output.quality} &> {log}"


rule report:
    input:
        code=code("report.page"),
        style=report_style,
        config=CONFIG_FILES,
        instances=all_instances(),
        gates=all_gates(),
        rollouts=shards("rollouts", CONFIG.rollouts),
        grades=shards("grades", CONFIG.rollouts),
        scores=all_scores(),
        attempts=attempts(CONFIG.attempts_tables()),
        cards=all_cards(),
        checkpoints=all_checkpoints(),
        tables=all_tables(),
        figures=all_figures(),
    output:
        report(
            directory("results/{run}/report"),
            htmlindex="index.html",
            category="The run's own report",
        ),
    log:
        "logs/{run}/report.log",
    conda:
        "../envs/driver.yaml"
    params:
        settings=settings(CONFIG.report),
        rollouts=report_words("rollouts"),
        grades=report_words("grades"),
        scores=report_scores_option,
        benchmarks="benchmarks",
    shell:
        "python -m swedag report --run {wildcards.run} --settings {params.settings:q} --config {input.config} "
        "--instances {input.instances} --gates {input.gates} --rollouts {params.rollouts} --grades {params.grades} "
        "{params.scores} --attempts {input.attempts} --cards {input.cards} --checkpoints {input.checkpoints} "
        "--tables {input.tables} --figures {input.figures} --benchmarks {params.benchmarks} "
        "--output {output} &> {log}"


rule provenance:
    input:
        code=code("provenance"),
        config=CONFIG_FILES,
        report="results/{run}/report",
    output:
        "results/{run}/ro-crate-metadata.json",
    log:
        "logs/{run}/provenance.log",
    conda:
        "../envs/driver.yaml"
    shell:
        "python -m swedag provenance --run {wildcards.run} --config {input.config} "
        "--snakefile workflow/Snakefile --root . --output {output} &> {log}"


for target, files in named_targets().items():

    rule:
        name:
            target
        input:
            files,
        localrule: True
