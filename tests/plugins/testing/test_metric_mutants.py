"""Mutants of a metric: each fails its check, and the correct metric passes all checks."""

import pytest
import torch

from glowplug_testing import MetricCase, MetricContract, checks as kit
from glowplug_testing.check_lists import METRIC_CHECKS

from .mutants import metrics

CHECKS = {check.name: check for check in METRIC_CHECKS}


def case_of(kind):
    """Return the case of a mean of numbers."""
    outputs = [torch.tensor([1.0, 2.0, 3.0]), torch.tensor([6.0]), torch.tensor([4.0, 8.0])]
    return MetricCase(
        make=kind, outputs=outputs, expected=4.0, reference=reference, random_output=random_output
    )


def reference(numbers):
    """Return the mean, computed in plain Python."""
    return sum(numbers.tolist()) / len(numbers)


def random_output(generator):
    """Return one to six numbers around zero."""
    size = int(torch.randint(1, 7, (), generator=generator))
    return torch.randn(size, dtype=torch.float64, generator=generator)


class TestMean(MetricContract):
    @pytest.fixture
    def case(self):
        """Return the case of the correct metric."""
        return case_of(metrics.Mean)


MUTANTS = {
    "MeanOfMeans": "batches_do_not_matter",
    "IsZeroWithoutData": "no_data_is_not_computable",
    "IgnoresTheSign": "random_data_gives_the_reference",
    "DividesByZero": "no_data_is_not_computable",
    "KeepsItsCount": "reset_clears_all_data",
    "RemembersItsValue": "compute_changes_nothing",
    "WeighsTheLast": "order_does_not_matter",
    "MutatesItsInput": "update_does_not_change_its_input",
    "KeepsTheBatches": "later_changes_do_not_matter",
    "KeepsTheGraph": "keeps_no_graph",
    "ComputesInPlace": "compute_changes_nothing",
    "ComputesOnOneRank": "ranks_agree_on_the_value",
    "ReducesTwice": "ranks_agree_on_the_value",
    "HasNoState": "state_restores_into_a_new_metric",
    "HasHalfAState": "state_restores_into_a_new_metric",
    "SharesItsSum": "copies_are_independent",
    "PublishesElsewhere": "is_published_under_its_name",
    "LeavesARegistration": "detach_removes_all",
    "ChangesTheDefaultType": "process_is_unchanged",
    "IsNoMetric": "value_covers_all_data",
}


@pytest.mark.parametrize(("mutant", "check"), MUTANTS.items())
def test_mutants_are_caught(mutant, check):
    """A mutant fails the check of its fault."""
    dtype = torch.get_default_dtype()
    result = kit.run_check(CHECKS[check], case_of(getattr(metrics, mutant)))
    torch.set_default_dtype(dtype)
    assert result.status == "failed", result


def test_all_mutants_are_in_the_table():
    """Every mutant is in the table."""
    mutants = {
        name for name, kind in vars(metrics).items() if getattr(kind, "__module__", "") == metrics.__name__
    }
    assert mutants - {"Mean"} == set(MUTANTS)


def test_reference_is_optional():
    """Without a reference the check of random data is skipped with a reason."""
    case = MetricCase(make=metrics.Mean, outputs=case_of(metrics.Mean).outputs, expected=4.0)
    result = kit.run_check(CHECKS["random_data_gives_the_reference"], case)
    assert result.status == "skipped"
    assert "random_output=" in result.message


@pytest.mark.parametrize("given", ["reference", "random_output"])
def test_reference_needs_random_data(given):
    """MetricCase requires both arguments or none."""
    with pytest.raises(TypeError, match="reference= and random_output="):
        MetricCase(make=metrics.Mean, outputs=[], expected=0, **{given: len})
