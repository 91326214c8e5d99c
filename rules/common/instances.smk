# Look-ups of rules/instances.smk.
def dataset_settings(wildcards):
    return settings(CONFIG.datasets[wildcards.dataset])


def dataset_sources(wildcards):
    releases = CONFIG.datasets[wildcards.dataset].sources()
    return [f"results/images/sources/{release}.tar.gz" for release in releases]


def dataset_rows(wildcards):
    return CONFIG.datasets[wildcards.dataset].source.rows_file()


def dataset_files(kind):
    """What a published dataset's config names beside its rows: ids, exclusion lists or specs."""

    def of_dataset(wildcards):
        return CONFIG.datasets[wildcards.dataset].input_files()[kind]

    return of_dataset
