"""The CC-iSales face: wire names and codes stop here. One module a resource."""
