def faults(driver, results):
    pass
